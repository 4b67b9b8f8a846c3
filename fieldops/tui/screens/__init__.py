"""One screen a file. A screen asks the Site for values, hands them to panels, and takes keys; each is imported on first use."""
