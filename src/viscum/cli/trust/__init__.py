"""Commands about trust: which images the policy allows, and signatures."""
