"""Test doubles and conformance suites for users of trace-adapters."""
