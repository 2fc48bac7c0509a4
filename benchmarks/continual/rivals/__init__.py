"""The methods that the paper compares with, one per file."""
