"""What failures teach: which calls must not run again unseen."""
