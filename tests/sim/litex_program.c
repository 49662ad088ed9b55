/* Program of a LiteX SoC: runs a sequence with the weights of the design and with others, by DMA and the emitted driver.

   It ends with the number of what went wrong, or 0. */
#include "csr.h"
#include "soc_driver.h"
#include "vectors.h" /* ORIGIN, STEPS, x, h[image], weights */

#define REGISTER(address) (*(volatile uint32_t *)(address))
/* Registers of a DMA core, from the first of x. */
#define LENGTH (CSR_SOC_DMA_X_LENGTH_ADDR - CSR_SOC_DMA_X_BASE_ADDR)
#define ENABLE (CSR_SOC_DMA_X_ENABLE_ADDR - CSR_SOC_DMA_X_BASE_ADDR)

static uint32_t x_beats[STEPS * SOC_X_STEP_BYTES / 4u], h_beats[STEPS * SOC_H_STEP_BYTES / 4u];

static void finish(uint32_t code) {
  REGISTER(CSR_RESULT_VALUE_ADDR) = code;
  for (;;) {
  }
}

static void start(uint32_t dma, const uint32_t *memory, uint32_t bytes) {
  REGISTER(dma + ENABLE) = 0u;
  REGISTER(dma) = 0u; /* upper half of the address */
  REGISTER(dma + 4u) = (uint32_t)memory;
  REGISTER(dma + LENGTH) = bytes;
  REGISTER(dma + ENABLE) = 1u;
}

static void run(unsigned image) {
  uint32_t step, element;
  int32_t found[SOC_H_SIZE];
  for (step = 0; step < STEPS; step++) soc_pack_x(x[step], (uint8_t *)x_beats + step * SOC_X_STEP_BYTES);
  start(CSR_SOC_DMA_H_BASE_ADDR, h_beats, STEPS * SOC_H_STEP_BYTES);
  start(CSR_SOC_DMA_X_BASE_ADDR, x_beats, STEPS * SOC_X_STEP_BYTES);
  while (!REGISTER(CSR_SOC_EV_STATUS_ADDR)) {
  }
  while (!REGISTER(CSR_SOC_DMA_H_DONE_ADDR)) {
  }
  if ((soc_events(ORIGIN) & ~SOC_EVENTS_SATURATION_MASK) != SOC_EVENTS_SEQUENCE_DONE_MASK) finish(2u);
  soc_clear_events(ORIGIN, 0xffffffffu);
  if (REGISTER(CSR_SOC_EV_STATUS_ADDR)) finish(3u);
  for (step = 0; step < STEPS; step++) {
    soc_unpack_h((const uint8_t *)h_beats + step * SOC_H_STEP_BYTES, found);
    for (element = 0; element < SOC_H_SIZE; element++)
      if (found[element] != h[image][step][element]) finish(10u + image);
  }
}

int main(void) {
  struct soc_counters counters;
  if (soc_init(ORIGIN) != SOC_OK) finish(1u);
  soc_enable_interrupts(ORIGIN, SOC_EVENTS_SEQUENCE_DONE_MASK);
  run(0u);
  if (soc_load_weights(ORIGIN, weights, sizeof weights) != SOC_OK) finish(4u);
  run(1u);
  soc_read_counters(ORIGIN, &counters);
  if (counters.steps != 2u * STEPS || counters.sequences != 2u || counters.saturations != SATURATIONS) finish(5u);
  finish(0u);
  return 0;
}
