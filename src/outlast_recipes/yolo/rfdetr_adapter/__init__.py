"""The only place that imports RF-DETR (Apache-2.0). Import it on use: `library` prepares its import."""
