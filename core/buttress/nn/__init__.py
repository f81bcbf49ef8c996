"""Operations on any ``nn.Module``: its modes, buffers, weights and layers."""
