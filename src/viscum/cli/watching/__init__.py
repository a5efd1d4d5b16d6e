"""Commands that show what machines do: processes, figures, events."""
