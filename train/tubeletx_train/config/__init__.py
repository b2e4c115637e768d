"""Settings: of everything that trains or judges, their recipes, and how they are read from a command line."""
