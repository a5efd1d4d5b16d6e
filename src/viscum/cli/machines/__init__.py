"""Commands about machines that live on, a module for each verb."""
