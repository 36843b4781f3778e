"""What the stand-in for S3 knows."""

KEY = "AKIAOUTLASTSTANDIN00"
SECRET = "a-secret-that-must-not-be-shown"
BUCKET = "bucket"
