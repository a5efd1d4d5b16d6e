"""Commands and their options, a module for each area; `viscum.cli.table` finds them."""
