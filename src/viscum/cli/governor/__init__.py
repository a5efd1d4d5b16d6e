"""`viscum governor …`: one module for each verb."""
