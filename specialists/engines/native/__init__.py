"""Pilothouse: the native CPU engine, our own decoder in C++."""
