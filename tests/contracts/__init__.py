"""Laws that every member of a registry obeys."""
