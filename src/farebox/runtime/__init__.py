"""All waiting and doing: what the pure actors decide is appended here, what they ask for is done here."""
