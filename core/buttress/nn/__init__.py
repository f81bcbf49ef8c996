"""What is done to any ``nn.Module``, and what is asked of one."""
