"""Peers and journals of landed commits work with today's code."""
