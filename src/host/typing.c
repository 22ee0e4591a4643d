/* Keys for bytes, and characters for codes, see typing.h. */
#include "host/typing.h"

#define PLAIN(key)                                                                             \
    {                                                                                          \
        INPUT_KEY_##key, false                                                                 \
    }
#define SHIFTED(key)                                                                           \
    {                                                                                          \
        INPUT_KEY_##key, true                                                                  \
    }

/* From 20h to 7Eh. */
static const struct {
    u8 key;
    bool shift;
} ascii[] = {
    PLAIN(SPC),
    SHIFTED(1),
    SHIFTED(APOSTROPHE),
    SHIFTED(3),
    SHIFTED(4),
    SHIFTED(5),
    SHIFTED(7),
    PLAIN(APOSTROPHE),
    SHIFTED(9),
    SHIFTED(0),
    SHIFTED(8),
    SHIFTED(EQUAL),
    PLAIN(COMMA),
    PLAIN(MINUS),
    PLAIN(DOT),
    PLAIN(SLASH),
    PLAIN(0),
    PLAIN(1),
    PLAIN(2),
    PLAIN(3),
    PLAIN(4),
    PLAIN(5),
    PLAIN(6),
    PLAIN(7),
    PLAIN(8),
    PLAIN(9),
    SHIFTED(SEMICOLON),
    PLAIN(SEMICOLON),
    SHIFTED(COMMA),
    PLAIN(EQUAL),
    SHIFTED(DOT),
    SHIFTED(SLASH),
    SHIFTED(2),
    SHIFTED(A),
    SHIFTED(B),
    SHIFTED(C),
    SHIFTED(D),
    SHIFTED(E),
    SHIFTED(F),
    SHIFTED(G),
    SHIFTED(H),
    SHIFTED(I),
    SHIFTED(J),
    SHIFTED(K),
    SHIFTED(L),
    SHIFTED(M),
    SHIFTED(N),
    SHIFTED(O),
    SHIFTED(P),
    SHIFTED(Q),
    SHIFTED(R),
    SHIFTED(S),
    SHIFTED(T),
    SHIFTED(U),
    SHIFTED(V),
    SHIFTED(W),
    SHIFTED(X),
    SHIFTED(Y),
    SHIFTED(Z),
    PLAIN(BRACKET_LEFT),
    PLAIN(BACKSLASH),
    PLAIN(BRACKET_RIGHT),
    SHIFTED(6),
    SHIFTED(MINUS),
    PLAIN(GRAVE_ACCENT),
    PLAIN(A),
    PLAIN(B),
    PLAIN(C),
    PLAIN(D),
    PLAIN(E),
    PLAIN(F),
    PLAIN(G),
    PLAIN(H),
    PLAIN(I),
    PLAIN(J),
    PLAIN(K),
    PLAIN(L),
    PLAIN(M),
    PLAIN(N),
    PLAIN(O),
    PLAIN(P),
    PLAIN(Q),
    PLAIN(R),
    PLAIN(S),
    PLAIN(T),
    PLAIN(U),
    PLAIN(V),
    PLAIN(W),
    PLAIN(X),
    PLAIN(Y),
    PLAIN(Z),
    SHIFTED(BRACKET_LEFT),
    SHIFTED(BACKSLASH),
    SHIFTED(BRACKET_RIGHT),
    SHIFTED(GRAVE_ACCENT),
};

static unsigned control(unsigned char byte, enum input_key *keys)
{
    switch (byte) {
    case '\b':
    case 0x7f:
        keys[0] = INPUT_KEY_BACKSPACE;
        return 1;
    case '\t':
        keys[0] = INPUT_KEY_TAB;
        return 1;
    case '\r':
    case '\n':
        keys[0] = INPUT_KEY_RET;
        return 1;
    case 0x1b:
        keys[0] = INPUT_KEY_ESC;
        return 1;
    default: /* Ctrl and the key 40h above */
        keys[0] = INPUT_KEY_CTRL;
        return 1 + typing_byte(byte ? byte | 0x60 : ' ', keys + 1);
    }
}

unsigned typing_byte(unsigned char byte, enum input_key *keys)
{
    unsigned n = 0;
    if (byte < 0x20 || byte == 0x7f)
        return control(byte, keys);
    if (byte > 0x7e)
        return 0;
    if (ascii[byte - 0x20].shift)
        keys[n++] = INPUT_KEY_SHIFT;
    keys[n++] = ascii[byte - 0x20].key;
    return n;
}

wchar_t typing_cp437(u8 character)
{
    static const wchar_t low[] = L" ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";
    static const wchar_t high[] =
        L"⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜"
        L"╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈"
        L"°∙·√ⁿ²■ ";
    if (character < 0x20)
        return low[character];
    return character < 0x7f ? (wchar_t)character : high[character - 0x7f];
}
