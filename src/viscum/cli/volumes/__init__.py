"""`viscum volume`: a module for each verb."""
