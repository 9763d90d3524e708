"""`python -m trace_adapters_textgrad SCRIPT ARGUMENTS`."""

from trace_adapters_textgrad.running import main

if __name__ == "__main__":
    main()
