"""The Celery side: runs a batch once the API has taken the batch."""
