REPOSITORY = "owner/bucket"
"""There is a model and a data set of this name."""

TOKEN = "hf_standin_write_token"
