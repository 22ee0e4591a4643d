/*
 * A 16550A UART (National Semiconductor PC16550D data sheet; register and bit names are its).
 *
 * Output leaves at once: the transmitter is always empty again when the guest looks, so THRE
 * interrupts follow a write immediately. Input waits in the back end until the FIFO has room,
 * which makes overruns impossible; its pace is the guest's. The character timeout interrupt
 * needs time: four characters at the programmed speed.
 */
#include "device/serial.h"

#include <stdlib.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "platform/device.h"

#define IER_ERBFI BIT(0) /* received data available */
#define IER_ETBEI BIT(1) /* transmitter holding register empty */
#define IER_ELSI  BIT(2) /* receiver line status */
#define IER_EDSSI BIT(3) /* modem status */

#define IIR_NONE    0x01
#define IIR_MODEM   0x00
#define IIR_THRE    0x02
#define IIR_RDA     0x04
#define IIR_TIMEOUT 0x0c
#define IIR_LINE    0x06
#define IIR_FIFO    0xc0

#define FCR_ENABLE     BIT(0)
#define FCR_RESET_RCVR BIT(1)
#define FCR_RESET_XMIT BIT(2)

#define LCR_DLAB BIT(7)

#define MCR_DTR  BIT(0)
#define MCR_RTS  BIT(1)
#define MCR_OUT1 BIT(2)
#define MCR_OUT2 BIT(3) /* gates the interrupt line on PCs */
#define MCR_LOOP BIT(4)

#define LSR_DR   BIT(0)
#define LSR_OE   BIT(1)
#define LSR_BI   BIT(4)
#define LSR_THRE BIT(5)
#define LSR_TEMT BIT(6)
#define LSR_FIFO BIT(7) /* an error is somewhere in the FIFO */

#define MSR_CTS        BIT(4)
#define MSR_DSR        BIT(5)
#define MSR_RI         BIT(6)
#define MSR_DCD        BIT(7)
#define MSR_DELTA_MASK 0x0f
#define MSR_TERI       BIT(2)

#define FIFO_SIZE 16
#define UART_HZ   1843200

struct serial {
    struct device device;
    struct board *board;
    struct chardev *chardev;
    struct irq_line irq;
    struct bus_region region;
    struct timer timeout;

    u8 ier, fcr, lcr, mcr, lsr, msr, scr;
    u16 divisor;
    bool thre_pending;    /* THRE interrupt not yet taken by an IIR read or THR write */
    bool timeout_pending; /* character timeout interrupt */
    u8 fifo[FIFO_SIZE];
    u8 fifo_first, fifo_count;
    u8 break_at;       /* which queued character is the break, counted from 1; 0 none */
    u64 timeout_start; /* virtual ns of the last FIFO traffic */
};

static bool serial_fifo_on(const struct serial *serial)
{
    return serial->fcr & FCR_ENABLE;
}

static unsigned serial_fifo_depth(const struct serial *serial)
{
    return serial_fifo_on(serial) ? FIFO_SIZE : 1;
}

static unsigned serial_trigger(const struct serial *serial)
{
    static const u8 levels[4] = {1, 4, 8, 14};
    return serial_fifo_on(serial) ? levels[serial->fcr >> 6] : 1;
}

/* IIR bits 3:0 by the priorities of the data sheet's table 3. */
static u8 serial_cause(const struct serial *serial)
{
    if ((serial->ier & IER_ELSI) && (serial->lsr & (LSR_OE | LSR_BI)))
        return IIR_LINE;
    if ((serial->ier & IER_ERBFI) && serial->fifo_count >= serial_trigger(serial))
        return IIR_RDA;
    if ((serial->ier & IER_ERBFI) && serial->timeout_pending)
        return IIR_TIMEOUT;
    if ((serial->ier & IER_ETBEI) && serial->thre_pending)
        return IIR_THRE;
    if ((serial->ier & IER_EDSSI) && (serial->msr & MSR_DELTA_MASK))
        return IIR_MODEM;
    return IIR_NONE;
}

static void serial_update(struct serial *serial)
{
    /* OUT2 gates the line, but for loopback, which disconnects the outputs (data sheet,
     * 8.7). */
    bool gate = (serial->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
    irq_set(&serial->irq, gate && serial_cause(serial) != IIR_NONE);
}

/* Four characters of start, data, parity and stop bits; data sheet, "FIFO interrupt mode". */
static u64 serial_timeout_ns(const struct serial *serial)
{
    unsigned bits_each =
        1 + 5 + (serial->lcr & 3) + !!(serial->lcr & 8) + 1 + !!(serial->lcr & 4);
    u64 divisor = serial->divisor ? serial->divisor : 1;
    return clock_ns(4 * bits_each * 16 * divisor, UART_HZ);
}

/* FIFO traffic: the timeout counts anew while characters below the trigger level wait. */
static void serial_timeout_restart(struct serial *serial)
{
    serial->timeout_pending = false;
    serial->timeout_start = clock_now(&serial->board->clock);
    if (serial_fifo_on(serial) && serial->fifo_count)
        timer_arm(&serial->board->clock, &serial->timeout,
                  serial->timeout_start + serial_timeout_ns(serial));
    else
        timer_cancel(&serial->board->clock, &serial->timeout);
}

static void serial_timeout(void *opaque)
{
    struct serial *serial = opaque;
    serial->timeout_pending = true;
    serial_update(serial);
}

/* Line status follows the character at the head of the FIFO. */
static void serial_head(struct serial *serial)
{
    serial->lsr &= ~LSR_DR;
    if (serial->fifo_count)
        serial->lsr |= LSR_DR;
    if (serial->break_at == 1)
        serial->lsr |= LSR_BI;
}

static void serial_push(struct serial *serial, u8 c)
{
    if (serial->fifo_count >= serial_fifo_depth(serial)) {
        serial->lsr |= LSR_OE;
        if (!serial_fifo_on(serial)) /* RBR is overwritten; a full FIFO keeps what it has */
            serial->fifo[serial->fifo_first] = c;
        return;
    }
    serial->fifo[(serial->fifo_first + serial->fifo_count++) % FIFO_SIZE] = c;
    serial_head(serial);
    serial_timeout_restart(serial);
}

static u8 serial_pop(struct serial *serial)
{
    u8 c = serial->fifo[serial->fifo_first];
    if (!serial->fifo_count)
        return c;
    serial->fifo_first = (serial->fifo_first + 1) % FIFO_SIZE;
    serial->fifo_count--;
    if (serial->break_at)
        serial->break_at--;
    serial_head(serial);
    serial_timeout_restart(serial);
    return c;
}

static void serial_clear_fifo(struct serial *serial)
{
    serial->fifo_first = serial->fifo_count = serial->break_at = 0;
    serial_head(serial);
    serial_timeout_restart(serial);
}

static void serial_transmit(struct serial *serial, u8 c)
{
    if (serial->mcr & MCR_LOOP)
        serial_push(serial, c);
    else
        chardev_write(serial->chardev, &c, 1);
    serial->thre_pending = true;
}

/* The modem inputs: in loopback the four outputs, else a terminal that is always there. */
static u8 serial_modem_inputs(const struct serial *serial)
{
    if (!(serial->mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (u8)((serial->mcr & MCR_RTS ? MSR_CTS : 0) | (serial->mcr & MCR_DTR ? MSR_DSR : 0) |
                (serial->mcr & MCR_OUT1 ? MSR_RI : 0) | (serial->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void serial_write_mcr(struct serial *serial, u8 value)
{
    serial->mcr = value & 0x1f;
    u8 old = serial->msr & 0xf0, now = serial_modem_inputs(serial);
    u8 delta = (u8)((old ^ now) >> 4);
    /* RI counts only when it goes away: trailing edge. */
    if (now & MSR_RI)
        delta &= ~MSR_TERI;
    serial->msr = (u8)(now | delta | (serial->msr & MSR_DELTA_MASK));
}

static void serial_write_fcr(struct serial *serial, u8 value)
{
    /* Changing the enable bit empties both FIFOs; the other bits count only with it. */
    if ((value ^ serial->fcr) & FCR_ENABLE)
        value |= FCR_RESET_RCVR;
    if (value & FCR_RESET_RCVR)
        serial_clear_fifo(serial);
    serial->fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
}

static void serial_write_ier(struct serial *serial, u8 value)
{
    /* Enabling ETBEI while the register is empty interrupts at once; Linux depends on it. */
    if ((value & IER_ETBEI) && !(serial->ier & IER_ETBEI))
        serial->thre_pending = true;
    serial->ier = value & 0x0f;
}

static size_t serial_can_receive(void *front)
{
    const struct serial *serial = front;
    if (serial->mcr & MCR_LOOP)
        return 0;
    unsigned depth = serial_fifo_depth(serial);
    return serial->fifo_count < depth ? depth - serial->fifo_count : 0;
}

static void serial_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct serial *serial = opaque;
    u8 v = (u8)value;
    bool dlab = serial->lcr & LCR_DLAB;
    switch (offset) {
    case 0:
        if (dlab)
            serial->divisor = (u16)((serial->divisor & 0xff00) | v);
        else
            serial_transmit(serial, v);
        break;
    case 1:
        if (dlab)
            serial->divisor = (u16)((serial->divisor & 0x00ff) | v << 8);
        else
            serial_write_ier(serial, v);
        break;
    case 2:
        serial_write_fcr(serial, v);
        break;
    case 3:
        serial->lcr = v;
        break;
    case 4:
        serial_write_mcr(serial, v);
        break;
    case 7:
        serial->scr = v;
        break;
    }
    serial_update(serial);
    /* An emptied FIFO and the end of loopback make room as reading does. */
    if ((offset == 2 || offset == 4) && serial_can_receive(serial))
        chardev_room(serial->chardev);
}

static u8 serial_read_iir(struct serial *serial)
{
    u8 cause = serial_cause(serial);
    if (cause == IIR_THRE)
        serial->thre_pending = false;
    return (u8)(cause | (serial_fifo_on(serial) ? IIR_FIFO : 0));
}

static u8 serial_read_lsr(struct serial *serial)
{
    u8 lsr = serial->lsr;
    if (serial_fifo_on(serial) && serial->break_at)
        lsr |= LSR_FIFO;
    serial->lsr &= ~(LSR_OE | LSR_BI);
    return lsr;
}

static u8 serial_read_rbr(struct serial *serial)
{
    u8 c = serial_pop(serial);
    /* Not in loopback, where the only source is the transmitter. */
    if (!(serial->mcr & MCR_LOOP))
        chardev_room(serial->chardev);
    return c;
}

static u8 serial_read_register(struct serial *serial, u64 offset)
{
    bool dlab = serial->lcr & LCR_DLAB;
    u8 value;
    switch (offset) {
    case 0:
        return dlab ? (u8)serial->divisor : serial_read_rbr(serial);
    case 1:
        return dlab ? (u8)(serial->divisor >> 8) : serial->ier;
    case 2:
        return serial_read_iir(serial);
    case 3:
        return serial->lcr;
    case 4:
        return serial->mcr;
    case 5:
        return serial_read_lsr(serial);
    case 6:
        value = serial->msr;
        serial->msr &= ~MSR_DELTA_MASK;
        return value;
    default:
        return serial->scr;
    }
}

static u64 serial_read(void *opaque, u64 offset, unsigned size)
{
    struct serial *serial = opaque;
    u8 value = serial_read_register(serial, offset);
    serial_update(serial);
    return value;
}

static const struct bus_ops serial_ops = {serial_read, serial_write};

static void serial_receive(void *front, const u8 *data, size_t len)
{
    struct serial *serial = front;
    for (size_t i = 0; i < len; i++)
        serial_push(serial, data[i]);
    serial_update(serial);
}

void serial_break(struct serial *serial)
{
    if (!serial_can_receive(serial))
        return;
    serial->break_at = serial->fifo_count + 1;
    serial_push(serial, 0);
    serial_update(serial);
}

static void serial_reset(void *device)
{
    struct serial *serial = device;
    serial->ier = serial->fcr = serial->lcr = serial->mcr = serial->scr = 0;
    serial->lsr = LSR_THRE | LSR_TEMT;
    serial->divisor = 12; /* 9600 baud; the data sheet leaves it undefined */
    serial->thre_pending = false;
    serial_clear_fifo(serial);
    serial->msr = serial_modem_inputs(serial);
    serial_update(serial);
}

static bool serial_post_load(void *device)
{
    struct serial *serial = device;
    if (serial->fifo_first >= FIFO_SIZE || serial->fifo_count > FIFO_SIZE ||
        serial->break_at > serial->fifo_count)
        return false;
    timer_cancel(&serial->board->clock, &serial->timeout);
    if (serial_fifo_on(serial) && serial->fifo_count && !serial->timeout_pending)
        timer_arm(&serial->board->clock, &serial->timeout,
                  serial->timeout_start + serial_timeout_ns(serial));
    serial_update(serial);
    return true;
}

static void serial_destroy(void *device)
{
    struct serial *serial = device;
    timer_cancel(&serial->board->clock, &serial->timeout);
    bus_remove(serial->board, &serial->region);
    free(serial);
}

static const struct field serial_fields[] = {
    FIELD(struct serial, ier),           FIELD(struct serial, fcr),
    FIELD(struct serial, lcr),           FIELD(struct serial, mcr),
    FIELD(struct serial, lsr),           FIELD(struct serial, msr),
    FIELD(struct serial, scr),           FIELD(struct serial, divisor),
    FIELD(struct serial, thre_pending),  FIELD(struct serial, timeout_pending),
    FIELD_BLOB(struct serial, fifo),     FIELD(struct serial, fifo_first),
    FIELD(struct serial, fifo_count),    FIELD(struct serial, break_at),
    FIELD(struct serial, timeout_start),
};

static const struct device_class serial_class = {
    .name = "serial",
    .version = 1,
    .fields = serial_fields,
    .n_fields = ARRAY_LEN(serial_fields),
    .reset = serial_reset,
    .post_load = serial_post_load,
    .destroy = serial_destroy,
};

struct serial *serial_create(struct board *board, u16 base, struct irq_line irq,
                             struct chardev *chardev)
{
    struct serial *serial = calloc(1, sizeof(*serial));
    ensure(serial);
    serial->board = board;
    serial->chardev = chardev;
    serial->irq = irq;
    serial->timeout = (struct timer){.fire = serial_timeout, .opaque = serial};
    serial->region = (struct bus_region){.name = "serial",
                                         .ops = &serial_ops,
                                         .opaque = serial,
                                         .base = base,
                                         .size = 8,
                                         .max_size = 1,
                                         .space = BUS_PIO};
    if (chardev) {
        chardev->can_receive = serial_can_receive;
        chardev->receive = serial_receive;
        chardev->front = serial;
    }
    bus_add(board, &serial->region);
    device_add(board, &serial->device, &serial_class, serial);
    serial_reset(serial);
    return serial;
}
