"""Kernel calls, one wrapper per call. Standard library only; runs on Python 3.8 and newer."""
