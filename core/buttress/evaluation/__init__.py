"""The verb ``evaluate``: attack a saved run or a file of weights."""
