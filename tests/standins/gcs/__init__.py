"""A stand-in for Google Cloud Storage."""

BUCKET = "bucket"
ACCOUNT = "outlast@stand-in.iam.gserviceaccount.com"
TOKEN = "ya29.a-token-that-must-not-be-shown"
