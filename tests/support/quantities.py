"""Quantities, and how Kubernetes writes them back; a real API server is asked the same."""

WRITTEN_BACK = {
    "2000m": "2", "8000m": "8", "500m": "500m", "1500m": "1500m", "6": "6", "0.5": "500m", "1.5": "1500m",
    "24Gi": "24Gi", "1024Mi": "1Gi", "1536Mi": "1536Mi", "1.5Gi": "1536Mi", "48Gi": "48Gi", "1000": "1k",
    "8000": "8k", "1000k": "1M", "1024": "1024", "1G": "1G", "1000Ki": "1000Ki", "2048Ki": "2Mi", "0.1": "100m",
    "12345678m": "12345678m", "1000000m": "1k", "0": "0",
}  # fmt: skip
