"""Several models side by side: found, asked, scored, judged, and what that says about which one to take."""
