"""What of a run's config may change while it goes on, how a change is read, and how it reaches the roles."""
