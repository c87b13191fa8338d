"""Every command as a Python function: text or paths in, records out. Light until one is called."""
