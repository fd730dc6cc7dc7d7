"""The proof that the dashboards show a run: a real one, a real Prometheus, and every query of every dashboard.

story.py plays a short run in which everything happens that a dashboard marks; prometheus.py scrapes and answers;
asking.py asks what the dashboards ask; judging.py says what is wrong; drawing/ makes a picture of each dashboard.
"""
