"""The command line: a table of commands and options, and a module for each verb."""
