"""The BIG-Bench Hard experiment of arXiv 2406.16218 (sec. 4.3) as a DSPy program."""
