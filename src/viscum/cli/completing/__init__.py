"""Completion for shells, written from the table of commands."""
