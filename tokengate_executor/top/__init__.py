"""``tokengate top``: an executor watched live in a terminal, through its dashboard."""
