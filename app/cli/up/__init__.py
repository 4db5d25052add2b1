"""`wylon up`: every process of a deployment on one machine, watched and started again."""
