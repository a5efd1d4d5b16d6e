"""`viscum oci`: a module for each verb."""
