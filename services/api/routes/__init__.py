"""The paths of the API, by subject. A handler reads what is, or writes what is wanted; it waits for no worker."""
