"""What worked with a landed commit works with today's code: its peers, and its journals."""
