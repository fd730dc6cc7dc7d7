"""Bodies of the API, as JSON. Times are RFC 3339 in UTC, durations in seconds, ratios 0 to 1.

A member that is null has a meaning, which its description gives; what does not exist yet has no member.
"""
