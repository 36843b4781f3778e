"""Google Cloud: a session is a virtual machine, and its files are in a bucket."""
