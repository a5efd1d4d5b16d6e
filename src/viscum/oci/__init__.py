"""An OCI runtime: config.json to a plan, and the verbs of runc's command line."""
