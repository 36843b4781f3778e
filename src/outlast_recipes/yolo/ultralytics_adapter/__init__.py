"""The only place that imports ultralytics (AGPL-3.0) and torchvision. Import it on use: `library` prepares both."""
