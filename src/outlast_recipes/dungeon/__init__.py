"""Dungeons of rooms: what a player does there, where the rooms are, and what is in them."""
