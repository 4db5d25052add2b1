"""The Celery side: what runs a batch once the API has taken it."""
