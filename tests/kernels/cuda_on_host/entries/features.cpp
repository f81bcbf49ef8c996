// features.cu has its entries itself.
