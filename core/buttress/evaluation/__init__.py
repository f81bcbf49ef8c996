"""The verb ``evaluate``: a saved run or a file of weights under attack."""
