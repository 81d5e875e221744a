"""The course: what the notebooks need besides the lab."""
