/* kernels/activation.h: the activation functions of the feed-forward part.
 *
 * May include: nothing. */
#ifndef LLORCH_KERNELS_ACTIVATION_H
#define LLORCH_KERNELS_ACTIVATION_H

/* config.json's gelu_new, gelu_fast and gelu_pytorch_tanh are all the tanh form. */
typedef enum { ACT_GELU_TANH, ACT_GELU_ERF, ACT_RELU, ACT_SILU, ACT_TANH, ACT_COUNT } Activation;

#endif
