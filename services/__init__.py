"""The only floor that knows Ray, HTTP, Prometheus and files of a run."""
