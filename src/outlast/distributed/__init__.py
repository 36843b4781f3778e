"""The processes of one attempt that train one model together."""
