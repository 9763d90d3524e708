"""Search over candidates: what to try next, and what to keep."""
