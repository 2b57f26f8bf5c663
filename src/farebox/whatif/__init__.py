"""What would have been: the tasks of a log through the real router, quota and cost under another policy, in virtual time."""
