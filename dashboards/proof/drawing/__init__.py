"""Pictures of filled dashboards, as Grafana's dark theme would roughly show them; a proof for the eye, not a viewer."""
